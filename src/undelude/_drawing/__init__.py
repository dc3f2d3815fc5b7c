"""Drawing: `Svg` for figures in pages, `Frame` for the frames of a film."""
