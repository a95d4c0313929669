"""The command line.  Commands are thin: they read arguments, call the library, and show what came back."""
