from storage import registry
from storage.records import Model, Sampling


def test_a_model_comes_back_as_it_was_put(store) -> None:
    model = Model(
        name="qwen",
        role="teacher",
        backend="openai",
        model="Qwen/Qwen2.5-72B-Instruct",
        revision="main",
        family="qwen2.5",
        parameters=72e9,
        system="Be brief.",
        sampling=Sampling(temperature=0.7, top_p=0.9, top_k=5, max_tokens=99, seed=3, stop=("\n\n", "END")),
        price_input=0.4,
        price_output=1.2,
        context=32768,
        options={"base_url": "http://localhost:1"},
    )
    put = registry.put(store, model, "identity")
    assert put.id is not None
    assert registry.get(store, "qwen") == put == registry.by_id(store, [put.id])[put.id]
    assert put.sampling == model.sampling


def test_the_same_identity_keeps_its_row_and_takes_the_new_price(store, make) -> None:
    first = make.model("a", price_output=1.0, context=1000)
    second = make.model("a", price_output=2.0, context=2000)
    assert second.id == first.id
    found = registry.get(store, "a")
    assert (found.price_output, found.context) == (2.0, 2000)
    assert len(registry.models(store)) == 1


def test_the_last_registered_row_is_the_model_of_its_name(store) -> None:
    old = registry.put(store, Model("a", "teacher", "x", "m", system="old"), "1")
    new = registry.put(store, Model("a", "teacher", "x", "m", system="new"), "2")
    assert registry.get(store, "a").id == new.id
    assert [model.id for model in registry.models(store)] == [new.id]
    assert [model.id for model in registry.models(store, superseded=True)] == [new.id, old.id]
    registry.put(store, Model("a", "teacher", "x", "m", system="old"), "1")
    assert registry.get(store, "a").id == old.id


def test_a_name_may_serve_two_roles(store) -> None:
    teacher = registry.put(store, Model("a", "teacher", "x", "m"), "1")
    student = registry.put(store, Model("a", "student", "x", "m"), "1")
    assert teacher.id != student.id
    assert registry.get(store, "a", "student").id == student.id
    assert [model.role for model in registry.models(store, role="teacher")] == ["teacher"]


def test_archived_models_are_hidden_and_come_back_when_put_again(store, make) -> None:
    model = make.model("a")
    registry.archive(store, model.id)
    assert registry.get(store, "a") is None
    assert registry.models(store) == []
    assert [item.archived for item in registry.models(store, archived=True)] == [True]
    assert registry.by_id(store, [model.id])[model.id].archived
    assert make.model("a").id == model.id
    assert not registry.get(store, "a").archived
    registry.archive(store, model.id)
    registry.archive(store, model.id, archived=False)
    assert registry.get(store, "a").id == model.id


def test_unknown_ids_and_names_are_left_out(store) -> None:
    assert registry.by_id(store, [4, 5]) == {}
    assert registry.get(store, "nobody") is None


def put(store, system: str, *, by_run: bool = False, **values) -> Model:
    return registry.put(
        store, Model("a", "teacher", "x", "m", system=system, **values), system, by_run=by_run
    )


def test_a_name_keeps_the_model_registered_by_hand_whatever_runs_bring_along(store) -> None:
    mine = put(store, "mine", family="llama", parameters=5.0, price_output=2.0, context=99)
    other = put(store, "of a run", by_run=True)
    assert other.id != mine.id
    used = put(store, "mine", by_run=True)
    assert used.id == mine.id
    put(store, "of another run", by_run=True)
    assert registry.get(store, "a") == mine
    assert registry.models(store) == [mine]
    assert [model.system for model in registry.models(store, superseded=True)] == [
        "mine",
        "of another run",
        "of a run",
    ]


def test_a_name_that_only_runs_have_is_what_the_newest_run_says(store) -> None:
    first = put(store, "one", by_run=True, context=10)
    put(store, "two", by_run=True)
    assert [model.system for model in registry.models(store)] == ["two"]
    again = put(store, "one", by_run=True, context=20)
    assert again.id == first.id
    assert registry.get(store, "a").context == 20


def test_registering_by_hand_what_a_run_has_made_makes_it_the_model_of_its_name(store) -> None:
    made = put(store, "one", by_run=True)
    put(store, "two", by_run=True)
    mine = put(store, "one", family="llama")
    assert mine.id == made.id
    put(store, "two", by_run=True)
    put(store, "one", by_run=True)
    assert registry.get(store, "a") == mine


def test_a_model_archived_by_hand_stays_hidden_behind_the_one_of_a_run(store) -> None:
    mine = put(store, "mine")
    registry.archive(store, mine.id)
    assert put(store, "mine", by_run=True).id == mine.id
    assert registry.models(store) == []
    put(store, "other", by_run=True)
    for archived in (False, True):
        assert [model.system for model in registry.models(store, archived=archived)] == ["other"]
    registry.archive(store, mine.id, archived=False)
    assert [model.system for model in registry.models(store)] == ["mine"]
