"""The zoo's commands, and starting the engine from any folder."""

import json


def test_the_list_names_every_model_whether_or_not_it_has_been_measured(persyn) -> None:
    ran = persyn("zoo", "list", "--json")
    assert ran.code == 0, ran.err
    names = {card["name"] for card in json.loads(ran.out)}
    assert {"scholar", "student", "router", "smollm2-135m"} <= names
    assert persyn("zoo", "list").code == 0
