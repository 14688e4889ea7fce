"""What an arm chose, written as each trainer reads it; and the card of a data set."""
