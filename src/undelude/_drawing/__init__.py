"""Drawing: `Svg` for figures in pages, `Frame` and `Film` for films of episodes."""
