"""The command line: one module a command, which parses and prints. The work is done by the functions that it calls."""
