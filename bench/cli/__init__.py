"""The command `bench`: parses, calls, prints, exits."""
