"""What a run shows of itself: report.html, and progress, policy, memory, gallery and embedding.png.

The names are loaded when they are first used, so that the command starts without torch.
"""
from utilities.lazy import loader

FILES = {
    "SHOWN": "gallery",
    "draw_gallery": "gallery",
    "draw_map": "embedding_map",
    "place_images": "places",
    "plot_context": "context",
    "plot_policy": "policy",
    "plot_progress": "progress",
    "write_report": "page",
}
__all__ = list(FILES)
__getattr__ = loader(__name__, FILES)
