import re

from topographic.pages.markup import Html, missing, resource, table, tag


def test_text_and_attributes_are_escaped_and_markup_is_not():
    inner = tag("b", "<script>")
    assert inner == "<b>&lt;script&gt;</b>"
    assert tag("p", "a & b", inner, None, title='"><x>', class_="y", data_row=None) == (
        '<p title="&quot;&gt;&lt;x&gt;" class="y">a &amp; b<b>&lt;script&gt;</b></p>'
    )
    assert tag("img", alt="it's") == '<img alt="it&#x27;s">'
    assert isinstance(inner, Html)


def test_joined_markup_is_plain_text_again_unless_it_says_otherwise():
    """str methods give str, so forgetting Html() escapes too much, never too little."""
    assert tag("p", tag("b", "x") + tag("b", "y")) == "<p>&lt;b&gt;x&lt;/b&gt;&lt;b&gt;y&lt;/b&gt;</p>"


def test_tables_name_rows_and_columns_for_screen_readers():
    made = table(["sheet", "I"], [("<a>", "0.5"), ("mean over 1 sheets", "0.5")], groups=[("", 1), ("Moran", 1)])
    assert made.count('<th scope="col">') == 2
    assert '<th scope="row">&lt;a&gt;</th><td>0.5</td>' in made
    assert '<tr class="mean">' in made
    assert '<th colspan="1" scope="colgroup">Moran</th>' in made
    assert made.startswith('<div class="scroll" tabindex="0">')


def test_what_is_missing_names_the_command():
    assert missing("No maps:", "topo map a&b") == '<p class="missing">No maps: <code>topo map a&amp;b</code></p>'


def test_rows_with_several_names_and_rows_that_go_on():
    made = table(["what", "run", "I"], [["a", "one", "1"], ["", "two", "2"], ["mean over 2", "one", "3"]], n_names=2)
    assert re.findall(r"<tr[^>]*>", made) == ["<tr>", "<tr>", '<tr class="more">', '<tr class="mean">']
    assert made.count('<th scope="row">') == 6
    assert made.count("<td>") == 3
    assert re.findall(r'<th scope="col"[^>]*>[^<]*', made)[1] == '<th scope="col" class="name">run'


def test_files_of_the_room():
    assert "$main" in resource("page.html")
    assert "prefers-color-scheme: dark" in resource("page.css")
