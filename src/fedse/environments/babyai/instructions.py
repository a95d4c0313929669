"""The rules of BabyAI as told to an agent."""

CONCISE = """\
You are in a grid of rooms and have to carry out the mission given at the beginning. You see only what lies ahead \
of you, up to 6 steps, and not through walls or shut doors. Each turn you are told what you see and which actions \
are available now. The actions are:
turn left, turn right, move forward
go to <thing> <number>: walk until you face it
pickup <thing> <number>: walk to it and pick it up; your hands must be free
drop: put down what you carry in front of you
go through <door> <number>: walk through an open door
toggle and go through <door> <number>: open a closed door and walk through it; a locked one needs a key of its color
toggle: open the door in front of you
check available actions
Copy an available action exactly. Turn, move and open doors until you see what the mission asks for, then use it."""

FULL = """\
You are in a grid of rooms and have to carry out a mission, such as "go to the red ball" or "pick up a key". The \
mission is given once, at the beginning.

What you see. You see a square of 7 by 7 cells: the row you stand in, 3 cells to each side, and 6 rows ahead. Walls \
and shut doors block your sight, and you do not see behind you. Things are keys, balls, boxes and doors, in red, \
green, blue, purple, yellow or grey; a door is open, closed or locked. Every thing in sight is listed with a number \
and with its distance ahead and to your left or right. You are also told how far away the wall or box is that you \
face, and what you carry.

What you can do. Each observation ends with the list of the actions available now. Write one of them exactly as it \
is listed:
turn left, turn right: turn on the spot.
move forward: take one step.
go to <thing> <number>: walk to a thing until you face it.
pickup <thing> <number>: walk to a key, ball or box and pick it up. You can carry one thing at a time.
drop: put what you carry into the empty cell in front of you.
go through <door> <number>: walk onto the cell of an open door.
toggle and go through <door> <number>: walk to a closed or locked door, open it and step onto its cell. A locked \
door opens only if you carry the key of its color.
toggle: open the closed or locked door right in front of you.
check available actions: have the list repeated.
Numbers in the list of actions count only things that you can reach, so take them from there. A long action stops \
early when a step changes nothing that you see. An action that is not possible is answered with the reason, and costs \
a turn.

How to play. If you see what the mission is about, go to it, pick it up or open it at once. If not, turn around to \
see the whole room, and then open a door to look behind it. Pick up a key when you meet a locked door of its color. If \
something blocks the way, pick it up and drop it elsewhere. "Put A next to B": pick up A, then drop it so that it \
lies next to B. Fewer steps give a higher reward.

For example, the mission is "go to the blue ball", and you see only a red closed door 3 steps ahead. The ball may be \
behind it, so the action is: toggle and go through red closed door 1. Now a blue ball is listed, and the next action \
ends the mission: go to blue ball 1."""
