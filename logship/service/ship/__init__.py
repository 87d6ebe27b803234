"""The shipper's side: from the primary's slot into the journal, and from there to the relay's clients."""
