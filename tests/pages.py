"""An HTML page as tests read it."""

from html.parser import HTMLParser

# Elements without an end tag.
VOID = {"meta", "link", "img", "br", "wbr", "hr", "input"}


class Page(HTMLParser):
    """Elements that are open, tags seen, addresses, and texts by tag."""

    def __init__(self, source: str):
        super().__init__()
        self.source, self.open, self.tags, self.addresses, self.text, self.loose = source, [], [], [], {}, []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.addresses += [value for key, value in attributes if key in ("src", "href", "srcset", "xlink:href", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.loose.append(tag)

    def handle_data(self, data):
        for tag in self.open:
            self.text[tag] = self.text.get(tag, "") + data
