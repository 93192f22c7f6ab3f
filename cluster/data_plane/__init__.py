"""data_plane: say what is in here."""
