import pytest

from rag_bot.words import STOP_TERMS, content, months, numbers


def test_words_are_stemmed_folded_and_lower_case() -> None:
    assert content("Refunds REFUNDED") == {"refund"}
    assert content("Müller") == content("muller") == {"muller"}


def test_words_without_meaning_are_left_out() -> None:
    assert content("What does the document say about this?") == frozenset()
    assert content("The pump is in the cellar.") == {"pump", "cellar"}


def test_stop_words_are_stemmed_as_text_is() -> None:
    assert {"was", "documents", "mentioned", "according"} & content("was documents") == set()
    assert "sourc" in STOP_TERMS


def test_a_sentence_of_numbers_has_content() -> None:
    assert "14" in content("within 14 days")


@pytest.mark.parametrize("text", ["1200", "1,200", "1 200", "1'200", "1’200", "1\u202f200"])
def test_a_number_is_the_same_however_it_is_grouped(text: str) -> None:
    assert numbers(f"costs {text} a year") == numbers("1200")


def test_decimals_agree_across_countries() -> None:
    assert numbers("1,200.50") == numbers("1 200,50") == numbers("1.200,50")


@pytest.mark.parametrize(
    ("one", "other"), [("1.5 %", "15 %"), ("12.00", "1200"), ("0.36", "36"), ("2,5 kg", "25 kg")]
)
def test_a_decimal_is_not_the_number_without_its_point(one: str, other: str) -> None:
    assert numbers(one) != numbers(other)


def test_two_numbers_of_a_list_stay_two() -> None:
    assert numbers("In 2024, 15 people left.") == numbers("2024") | numbers("15")
    assert numbers("pages 3 4 and 5") == numbers("3") | numbers("4") | numbers("5")


def test_text_without_digits_has_no_numbers() -> None:
    assert numbers("fourteen") == frozenset()


def test_a_minus_sign_counts_and_a_hyphen_does_not() -> None:
    assert numbers("at -20 °C") == numbers("at −20 °C") == {"-20"}
    assert numbers("from 10-20 to 2027-03-31, BP-12") == {"10", "20", "2027", "3", "31", "12"}


@pytest.mark.parametrize("text", ["31.12.2027", "31. 12. 2027"])
def test_a_dotted_date_has_a_day_a_month_and_a_year(text: str) -> None:
    assert numbers(f"endet am {text}.") == {"31", "12", "2027"}
    assert numbers("am 1.05.2027") == numbers("am 1.5.2027") == {"1", "5", "2027"}


@pytest.mark.parametrize("text", ["am 3.5.2021", "03. 05. 2021", "on 2021-05-03", "(2021-05-03)"])
def test_a_date_in_figures_speaks_of_its_month(text: str) -> None:
    assert months(text) == content("May")
    assert numbers(text) == {"3", "5", "2021"}


@pytest.mark.parametrize("text", ["1.2.3.2021", "2021-05-031", "2021-13-01", "A-2021-05-03", "May"])
def test_what_is_no_date_in_figures_speaks_of_no_month(text: str) -> None:
    assert months(text) == frozenset()
