"""`logship init`: two databases become a primary and a secondary, and the secondary is filled."""
