"""Templates of batch scripts."""

import pytest

from isthmus.domain.errors import Invalid
from isthmus.sites.template import check_template, fill

NAMES = ("directives", "setup", "run", "queue")


def test_fills_names_and_leaves_the_shells_own_signs_alone() -> None:
    text = "#!/bin/sh\n{{directives}}\n\n{{setup}}\necho ${HOME} $1 {a,b} {{ queue }}\n{{run}}\n"
    assert fill(text, {"directives": "#A\n#B", "setup": "", "run": "exec x", "queue": "q{{run}}"}) == (
        "#!/bin/sh\n#A\n#B\n\necho ${HOME} $1 {a,b} q{{run}}\nexec x\n"
    )


def test_a_good_template_passes() -> None:
    check_template("#!/bin/bash -l\n{{directives}}\nmodule load {{queue}}\n{{run}}\n", NAMES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("#!/bin/sh\n{{driectives}}\n{{run}}\n", "directives"),
        ("#!/bin/sh\n{{directives}}\n", "{{run}}"),
        ("{{run}}\n", "#!/bin/bash"),
    ],
)
def test_a_bad_template_is_refused(text: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_template(text, NAMES)
    assert said in str(caught.value)
    assert caught.value.place == "template"
