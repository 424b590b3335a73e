"""Values of query parameters, forms and JSON: one rule."""

import pytest
from image_categorizer.v1.classify_pb2 import ClassifyOptions, ClassifyRequest
from image_categorizer_server.errors import InvalidRequest
from image_categorizer_server.rpc.fields import Fields


def options(*given, **query):
    """Returns options that come from a query, and then from (name, value)."""
    message = ClassifyOptions(**query)
    fields = Fields(message)
    for name, value in given:
        fields.set(name, value)
    fields.finish()
    return message


def refusal(*given, **query):
    with pytest.raises(InvalidRequest) as caught:
        options(*given, **query)
    ((field, text),) = caught.value.violations
    return f"{field} {text}"


@pytest.mark.parametrize("value", [True, 1, "true", "True", "TRUE", " true ", "1", "t", "yes", "Y"])
def test_true_is_written_in_many_ways(value):
    assert options(("explain", value)).explain is True


@pytest.mark.parametrize("value", [False, 0, "false", "False", "0", "f", "no", "N\r\n"])
def test_false_is_written_in_many_ways(value):
    assert options(("explain", value)) == ClassifyOptions()


@pytest.mark.parametrize("value", ["on", "2", 2, 0.5, [], {}, "truetrue", "\u0661"])
def test_other_values_are_no_booleans(value):
    expected = "explain must be true or false"
    assert refusal(("explain", value)) == expected


@pytest.mark.parametrize("value", [3, 3.0, "3", " 3 ", "03", "+3"])
def test_whole_numbers_are_read(value):
    assert options(("top_k", value)).top_k == 3


@pytest.mark.parametrize(
    "value", [True, 3.5, "3.5", "1_0", "\u0663", "many", 2**31, "9" * 5000, [3], {}, float("inf")]
)
def test_other_values_are_no_whole_numbers(value):
    assert refusal(("top_k", value)) == "top_k must be a number"


@pytest.mark.parametrize("value", [0.25, "0.25", ".25", " 25e-2"])
def test_numbers_are_read(value):
    assert options(("confidence_threshold", value)).confidence_threshold == 0.25


@pytest.mark.parametrize("value", [True, "nan", "1_0", "0x1", "", [0.5], "1" * 100])
def test_other_values_are_no_numbers(value):
    if value == "":
        assert options(("confidence_threshold", value)) == ClassifyOptions()
    else:
        assert refusal(("confidence_threshold", value)).endswith("must be a number")


@pytest.mark.parametrize("value", ["2", 2])
def test_a_version_may_be_a_number(value):
    assert options(("version", value)).version == "2"


@pytest.mark.parametrize("value", [True, [], {}, "half \ud800"])
def test_other_values_are_no_text(value):
    assert refusal(("model", value)) == "model must be UTF-8 text"


def test_names_have_the_form_of_the_proto_or_of_json():
    expected = ClassifyOptions(top_k=2, include_categories=["a", "b"])
    assert options(("topK", 2), ("includeCategories", ["a", "b"])) == expected
    assert (
        options(("top_k", 2), ("include_categories", "a"), ("includeCategories", "b")) == expected
    )


def test_empty_values_and_null_are_not_given():
    given = [("model", ""), ("model", "  "), ("top_k", None), ("top_k", ""), ("explain", "")]
    assert options(*given, ("include_categories", ["", "a"]), model="m") == ClassifyOptions(
        model="m", include_categories=["a"]
    )


def test_a_value_may_be_given_twice_if_it_is_the_same():
    given = [("model", "m"), ("topK", "2"), ("confidence_threshold", "0.1")]
    query = {"model": "m", "top_k": 2, "confidence_threshold": 0.1, "include_categories": ["a"]}
    assert options(*given, ("include_categories", "a"), **query) == ClassifyOptions(**query)


@pytest.mark.parametrize(
    ("given", "query"),
    [
        ([("model", "a")], {"model": "b"}),
        ([("explain", False)], {"explain": True}),
        ([("top_k", 1), ("topK", 2)], {}),
        ([("include_categories", ["a"])], {"include_categories": ["a", "b"]}),
    ],
)
def test_a_field_with_two_values_is_refused(given, query):
    assert refusal(*given, **query).endswith("is given twice, with different values")


def test_an_unknown_name_is_not_repeated_in_full():
    text = refusal(("x" * 5000, 1))
    assert text.startswith(
        "x" * 64 + " is not a field of the form; fields are blur, bounding_boxes,"
    )
    assert len(text) < 300


def test_an_option_in_the_wrong_place_is_told_where_it_belongs():
    fields = Fields(ClassifyRequest(), ("image",))
    with pytest.raises(InvalidRequest, match="top_k: belongs into options"):
        fields.set("top_k", 1)


def test_messages_are_read_within_a_message():
    request = ClassifyRequest(options=ClassifyOptions(top_k=2))
    fields = Fields(request, ("image",))
    fields.set("options", {"model": "m", "topK": "2"})
    fields.set("webhookUrl", "https://a.example")
    fields.finish()
    assert request == ClassifyRequest(
        options=ClassifyOptions(model="m", top_k=2), webhook_url="https://a.example"
    )
    for value, text in (
        ([], "options: must be an object"),
        ({"top_k": 3}, "options.top_k: is given twice"),
        ({"explain": "on"}, "options.explain: must be true or false"),
    ):
        with pytest.raises(InvalidRequest, match=text):
            fields.set("options", value)
