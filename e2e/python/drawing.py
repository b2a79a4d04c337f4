"""What pictures (SVG) of results have in common."""

from html import escape


def label(x: float, y: float, text: str, anchor: str = "start", size: int = 12) -> str:
    """A text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
