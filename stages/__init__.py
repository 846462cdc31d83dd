"""The commands: each puts rooms together and keeps what they make in one folder."""
