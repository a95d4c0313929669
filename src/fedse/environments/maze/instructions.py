"""The rules of the maze as told to an agent."""

CONCISE = """\
You walk through a maze to its goal. A position is given as row, column: rows grow downward, columns grow to \
the right. Each turn you see the goal's position, your position and the walls next to you.
Actions: move up, move down, move left, move right. A move into a wall leaves you where you are.
Go toward the goal where the way is open, and turn back only in a dead end."""

FULL = """\
You are inside a maze and have to find its goal in as few moves as you can.

The maze is a grid of cells, 10 rows by 13 columns. A position is written as two numbers, the row and the \
column, both counted from 0. Rows grow downward and columns grow to the right, so moving down adds 1 to the \
row and moving right adds 1 to the column. You do not see the map. After every move you are told where the \
goal is, where you are, and on which of your four sides there is a wall; the other sides are open.

The actions are exactly these four:
move up
move down
move left
move right
One action per turn. An action written differently, or a move into a wall, leaves you where you are and still \
costs a turn. The episode ends with success when you stand on the goal.

Hints: compare the two positions to see in which directions the goal lies, and go that way where no wall is \
named. The corridors bend, so the way may lead away from the goal for a while. Remember where you came from, \
and turn back only when you are in a dead end.

For example, with the goal at 8, 6 you might stand at 5, 4 with walls above you and below you. The goal lies \
down and to the right. Down is blocked, so the action is: move right. At 5, 5 the walls are the same and you \
go on: move right. At 5, 6 only the wall above you is left, so now you can head down: move down. Two more \
times move down, and you are there."""
