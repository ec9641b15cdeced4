import pytest

from selffilter.reporting.markup import Markup, document, element, joined, shortest, stylesheet


def test_texts_and_attributes_are_escaped_and_markup_is_not():
    made = element("p", "<b>", element("i", "x & y"), title='"><script>')
    assert made == '<p title="&quot;&gt;&lt;script&gt;">&lt;b&gt;<i>x &amp; y</i></p>'


def test_markup_that_was_changed_as_text_is_text_again():
    assert element("p", element("b").lower() + "") == "<p>&lt;b&gt;&lt;/b&gt;</p>"


def test_none_is_left_out_and_lists_are_taken_apart():
    assert joined(None, ["a", [1, element("br")]], ()) == "a1<br>"


def test_attributes_that_say_no_are_left_out():
    made = element("input", type="radio", checked=True, disabled=False, class_=None, aria_label="x")
    assert made == '<input type="radio" checked aria-label="x">'


def test_an_element_without_content_takes_none():
    with pytest.raises(ValueError, match="<img> has no content"):
        element("img", "text")


def test_a_style_cannot_end_its_element():
    assert isinstance(stylesheet("p > b { color: red }"), Markup)
    with pytest.raises(ValueError, match="closes"):
        stylesheet("</style><script>")


@pytest.mark.parametrize(
    ("value", "written"), [(1.0, "1"), (0.125, "0.12"), (-0.001, "0"), (100.0, "100")]
)
def test_coordinates_are_short(value, written):
    assert shortest(value) == written


def test_a_page_begins_as_pages_do():
    assert document(element("title", "t"), element("p")).startswith("<!doctype html>\n<html")
