"""What a built set holds, to look at: its main table, statistics with figures, and a gallery."""
