"""The command `bench`: parse options, call, print, exit."""
