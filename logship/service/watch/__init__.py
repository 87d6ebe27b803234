"""What a program shows of itself: health, figures, the page, and whether a stage stands."""
