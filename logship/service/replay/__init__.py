"""The replayer's side: from a relay or a walsender's journal into memory and persistence."""
