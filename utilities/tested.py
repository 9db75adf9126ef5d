"""What the metrics of a run say: of classes that it was trained on, or of others."""
UNSEEN = "classes that were never trained on"
SEEN = "images of classes that were trained on"


def has_test(flags: dict) -> bool:
    """Whether a run with these flags holds images for testing."""
    return not flags.get("train_on_all") or bool(flags.get("test_by_images"))


def tested_on(flags: dict) -> str | None:
    """What a run with these flags is tested on; None where it is not tested."""
    if not has_test(flags):
        return None
    return SEEN if flags.get("train_on_all") else UNSEEN


def note_of_all(flags: dict) -> str | None:
    """A sentence on the test of a run that trains on all classes; None for other runs."""
    if not flags.get("train_on_all"):
        return None
    if not has_test(flags):
        return "Trained on all classes: no images are held for testing."
    return (f"Tested on {SEEN}: each is searched among all images that are not held for testing. "
            "This says nothing of new classes.")
