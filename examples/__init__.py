"""Programs that show Isthmus at work. Each runs by itself too."""
