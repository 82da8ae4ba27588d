"""The search task: which texts make it, and who finds what."""

from __future__ import annotations

import math

import numpy as np

from ridgeline_export.compress.report.retrieval import make_search, recall


def test_a_text_is_cut_after_its_first_sentence() -> None:
    search = make_search(
        [
            "Return the size of it. It is in bytes. Or bits.",
            "Open a new queue\n\nThe queue is closed at exit.",
            "Is this the end? No it is not!",
        ]
    )
    assert search.queries == ("Return the size of it.", "Open a new queue", "Is this the end?")
    assert search.documents == ("It is in bytes. Or bits.", "The queue is closed at exit.", "No it is not!")


def test_texts_that_make_no_question_are_left_out() -> None:
    texts = ["One sentence of five words.", "Too short. But this is long enough.", "This is long enough. Too short.",
             "Same words begin here. First of two texts.", "Same words begin here. Second of two texts.",
             "First of these two. Same words end here.", "Second of these two. Same words end here."]  # fmt: skip
    assert make_search(texts).queries == ()


def test_recall_counts_documents_among_the_ten_nearest() -> None:
    documents = np.eye(30)
    assert recall(documents, documents) == 1
    assert recall(np.roll(documents, 1, axis=0), documents) == 0
    half = np.concatenate([documents[:15], np.roll(documents, 1, axis=0)[15:]])
    assert recall(half, documents) == 0.5
    assert recall(np.ones_like(documents), np.ones_like(documents)) == 0
    assert math.isnan(recall(documents[:10], documents[:10]))
    assert math.isnan(recall(documents * np.nan, documents))
