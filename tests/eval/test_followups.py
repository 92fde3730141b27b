from eval import followups
from eval.cases import GoldenCase, PageRef
from eval.datasets import Dataset
from rag_bot.config import Settings
from rag_bot.types import Message

ASKED = GoldenCase(
    "1",
    "And when?",
    (),
    (PageRef("ferry.txt", None),),
    history=(Message("user", "Does the ferry go to Ulvik?"), Message("assistant", "Yes.")),
)
TEXTS = {
    "ferry": "The ferry to Ulvik leaves at noon from the northern quay.",
    **{f"when{n}": f"And when the {word} came, they left." for n, word in enumerate("abcdefgh")},
}


def test_the_whole_history_is_what_the_user_said() -> None:
    assert followups.history(ASKED) == "Does the ferry go to Ulvik? And when?"


def test_a_follow_up_is_found_by_what_came_before(settings: Settings) -> None:
    unanswerable = GoldenCase("2", "Who?", (), (), answerable=False)
    values, groups = followups.measure(Dataset(TEXTS, (ASKED, unanswerable)), settings, k=1)
    assert values == {"raw": [0.0], "history": [1.0], "rewritten": [1.0]}
    assert groups == ["1"]


def test_each_form_is_held_against_the_rewritten_one() -> None:
    values = {"raw": [0.0, 1.0], "history": [1.0, 1.0], "rewritten": [1.0, 1.0]}
    found = followups.compared(values, ["a", "b"])
    assert set(found) == {"raw", "history"}
    assert found["raw"] is not None
    assert found["raw"].mean == 0.5
