"""Seeded fuzzing of everything that strangers write: messages, files, magic lines, terminal
text."""
