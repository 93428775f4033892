"""The settings, a folder a group, a file an option."""
