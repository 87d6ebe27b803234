"""Schema changes, as far as no connection is needed: proven, located in their text, compared by their facts."""
