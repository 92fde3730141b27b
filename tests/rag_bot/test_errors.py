import inspect
import pickle
import re

import pytest

from rag_bot import errors
from rag_bot.errors import DocumentError, RagBotError

CLASSES = {
    name: each
    for name, each in vars(errors).items()
    if inspect.isclass(each) and issubclass(each, RagBotError)
}


def drawn() -> dict[str, tuple[str, int]]:
    """The docstring's tree: each name with its parent and exit status."""
    found: dict[str, tuple[str, int]] = {}
    above: list[tuple[int, str, int]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^([ │├└─]*)([A-Z]\w+)(?:\s+exit (\d))?", line)
        if not match or not line.startswith("    "):
            continue
        depth = len(match[1])
        while above and above[-1][0] >= depth:
            above.pop()
        parent, inherited = above[-1][1:] if above else ("Exception", 1)
        status = int(match[3] or inherited)
        found[match[2]] = (parent, status)
        above.append((depth, match[2], status))
    return found


def test_the_drawn_tree_is_the_tree_of_classes() -> None:
    real = {name: (each.__bases__[0].__name__, each.exit_status) for name, each in CLASSES.items()}
    assert drawn() == real


def test_the_message_is_one_line_with_its_remedy() -> None:
    assert str(RagBotError("the lamp is out", "change the bulb")) == (
        "the lamp is out (change the bulb)"
    )
    assert str(RagBotError("the lamp is out")) == "the lamp is out"


@pytest.mark.parametrize("kind", CLASSES.values(), ids=CLASSES)
def test_an_error_survives_the_way_between_processes(kind: type[RagBotError]) -> None:
    arguments = ("m", "r")
    error = kind("c", *arguments) if issubclass(kind, DocumentError) else kind(*arguments)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert vars(back) == vars(error)
    assert str(back) == "m (r)"


def test_only_documents_have_a_code() -> None:
    error = errors.UnreadableDocument("empty", "nothing in it", "fill it")
    assert (error.code, error.message, error.remedy) == ("empty", "nothing in it", "fill it")
