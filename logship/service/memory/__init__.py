"""Questions to a running replayer's memory: what is asked, with whose rights, and who answers."""
