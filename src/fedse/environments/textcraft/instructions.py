"""The rules of TextCraft as told to an agent."""

CONCISE = """\
You craft the goal item. The first message lists crafting commands, not all of them useful, and the goal.
Actions:
get 2 oak logs: fetch things. This works only for what no command makes.
craft 4 oak planks using 1 oak logs: carry out a command, with its exact numbers and with what you have. Repeat it \
to make more.
inventory: see what you have.
An ingredient "planks" means any one kind of planks, "wool" any one colour but white: write the kind that you have."""

FULL = """\
You are in a crafting game and have to make one item, the goal. The first message lists crafting commands and names \
the goal. Some of the commands are of no use for it.

There are three kinds of action, one per turn:

get NUMBER ITEM
Fetches any number of an item, for example: get 2 oak logs. It works only for basic things, those that cannot be \
crafted. If a command makes a thing, you have to craft it.

craft NUMBER ITEM using NUMBER ITEM, NUMBER ITEM
Carries out one of the listed commands, for example: craft 4 oak planks using 1 oak logs. You must already have \
everything after "using". What is used up is gone, and you receive what the command makes. Copy names and numbers \
exactly; larger numbers do not make more, but you can give the same action again.

inventory
Lists what you have.

Some commands name a generic ingredient. "planks" means any one kind of planks, such as oak planks or birch planks; \
"wool" means wool of any one colour but white. You cannot fetch or carry a generic thing: craft one kind of it and \
write that kind in the action. Other names that sound generic, such as logs or oak logs, are basic things that you \
can get.

Hints: find the command that makes the goal and look at what it uses. For each of these, see whether a command \
makes it. If so, look at what that command uses in turn; if not, get it. Work out how many you need in all, because \
one craft makes only the number in its command.

For example, suppose that the commands are
craft 4 stick using 2 planks
craft 4 oak planks using 1 oak logs
craft 1 bow using 3 string, 3 stick
and the goal is to craft stick. A stick needs two planks, oak planks will do, and one command makes four of them \
from one oak logs, which no command makes. So the actions are: get 1 oak logs; then craft 4 oak planks using 1 oak \
logs; then craft 4 stick using 2 oak planks. The bow is not needed.

The episode ends with success when you craft the goal."""
