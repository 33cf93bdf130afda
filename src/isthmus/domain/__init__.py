"""What the words of Isthmus mean: nouns, states, plans and errors. Standard library only."""
