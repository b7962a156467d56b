"""The command line: ``unclip generate "a fox on a sandy beach"`` against any gateway."""
