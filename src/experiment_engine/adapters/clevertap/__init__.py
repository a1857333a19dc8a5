"""CleverTap's JSON to and from our values; nobody else knows its words."""
