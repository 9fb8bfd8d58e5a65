"""Records are built by the names of their columns."""

from sqlalchemy import literal, select

from storage import responses
from storage.rows import MODEL, RESPONSE
from storage.schema import ModelRow, ResponseRow


def test_neither_the_order_nor_the_number_of_columns_shifts_a_record(store, make) -> None:
    who = make.generation("a")
    _, (prompt,) = make.prompt_set(["synthesis"])
    responses.add(store, None, [make.answer(prompt, who, "yes", cost=0.25)])
    expected = responses.of_prompts(store, [prompt], [who])[prompt][who.teacher_id]
    response, model = list(RESPONSE), list(MODEL)
    added = literal("in the middle").label("added")
    with store.read() as connection:
        columns = select(*response[5:], added, *model[::-1], *response[:5])
        result = connection.execute(columns.join(ModelRow, ModelRow.id == ResponseRow.teacher_id))
        row = result.one()
        assert RESPONSE.reader(result)(row) == expected
        found = MODEL.reader(result)(row)
    assert (found.id, found.name, found.role, found.archived) == (who.teacher_id, "a", "teacher", False)
