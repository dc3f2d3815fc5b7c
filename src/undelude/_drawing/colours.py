"""The colours of all figures, by role.

Blue and orange (vermillion) are from the palette of Okabe and Ito, which can be told apart without red-green vision.
Line style and marker repeat the distinction.
"""

# Colours on white, for pictures that do not belong to a page: frames of a film and SVG files.
ON_WHITE = {
    "paper": "#ffffff",
    "ink": "#222222",
    "muted": "#777777",
    "rule": "#dddddd",
    "do": "#0072b2",
    "see": "#d55e00",
    "do-text": "#0072b2",
    "see-text": "#b34f00",
    "alarm": "#c1121f",
}

# Placeholders in which a figure for a page is drawn. The SVG then names the page's variables in their place, because
# light, dark and printed pages each have their own colours.
INK, MUTED, RULE, PAPER = "#010101", "#020202", "#030303", "#080808"
DO, SEE, DO_TEXT, SEE_TEXT = "#040404", "#050505", "#060606", "#070707"
VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    DO: "do",
    SEE: "see",
    DO_TEXT: "do-text",
    SEE_TEXT: "see-text",
    PAPER: "paper",
}

# For more lines than these, from the same palette; the last one is darkened for a light page.
OTHERS = ("#009e73", "#b5609a")
