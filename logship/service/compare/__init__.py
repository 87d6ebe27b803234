"""Both sides at one LSN: whether rows and schema are equal, and what makes them so again."""
