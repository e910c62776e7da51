"""The protocol layer: messages in, events out; no kernel is needed here."""
