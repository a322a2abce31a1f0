"""The vocabulary of the sample data: names, places, goods, and texts that are hard on file formats."""

from __future__ import annotations

CHAINS = (1764, 1764, 1764, 2001)  # three rows in four are the first chain's

# The taxonomy: category -> its path, brands and goods.
CATEGORIES = (
    "Electronics",
    "Clothing",
    "Home & Garden",
    "Groceries",
    "Toys",
    "Books, Films and Music",
    "Sport",
    "Schönheit",
)
PATHS = {
    "Electronics": ["Electronics", "Audio", "Headphones"],
    "Clothing": ["Clothing", "Women"],
    "Home & Garden": ["Home & Garden"],
    "Groceries": ["Groceries", "Dairy", "Cheese"],
    "Toys": ["Toys", "Wooden"],
    "Books, Films and Music": ["Books, Films and Music", "Films"],
    "Sport": [],
    "Schönheit": ["Schönheit", "Pflege"],
}
BRANDS = ("Acme", "Globex", "Čeněk & synové", "O'Neill", 'The "Original"', "Ångström", "東京堂", "")
MANUFACTURERS = ("Globex NV", "Acme, Inc.", "Umbrella GmbH", "Ødegård AS")
GOODS = ("Lamp", "Jacket", "Kettle", "Café crème", "Teddy bear", "Bluetooth speaker", "Chair", "Naïve novel", "ČEPICE")
MANNERS = ("Classic", "Winter", "Mini", "Pro", "Eco", "Ünique", "Ελληνικός", "Κόσμος")
DESCRIPTIONS = (
    "A dependable everyday choice.",
    'Comes in a box marked "fragile", with care instructions.',
    "First line\nsecond line",
    "Size 10,5; weight 1.2 kg; for ages 3+",
    "=SUM(A1:A9)",
    "-10% this week only",
    "@home edition",
    "Tab\tseparated and trailing space ",
    "Für drinnen und draußen – geprüft ✓",  # noqa: RUF001 -- real texts have such dashes
    "お買い得 🎁",
    "",
)
NOTES = ("Delivered to neighbour", "Gift\r\nwrap, please", '=HYPERLINK("http://example.org")', "", "Zzz…", "+1 free")
TAGS = ("new", "sale", "eco", "limited", "bestseller", "clearance", "été", "a,b", 'quoted "tag"')
SEASONS = ("SS25", "AW25", "SS26", "AW26")
UNITS = ("item", "g", "kg", "l")
SIZES = ("XS", "S", "M", "L", "XL", "42", "42½")
COLOURS = ("black", "white", "red", "navy blue", "grün", "rosé")

FIRST_NAMES = (
    "Anna",
    "Björn",
    "Čeněk",
    "Dörte",
    "Eléonore",
    "Σωκράτης",
    "Zoë",
    "José",
    "İpek",
    "Łukasz",
    "美咲",
    "Ann-Sofie",
)
LAST_NAMES = (
    "de Vries",
    "O'Brien",
    "Müller",
    "Łapiński",
    "Straße",
    "Øst",
    "García Lorca",
    "Νικολάου",
    "Smith, Jr.",
    "山田",
)
# Country, code, city, postcode, latitude, longitude, telephone prefix, language.
PLACES = (
    ("Netherlands", "NL", "Amsterdam", "1012 AB", 52.3731, 4.8926, "+31 20 ", "nl"),
    ("Netherlands", "NL", "'s-Hertogenbosch", "5211 AP", 51.6978, 5.3037, "+31 73 ", "nl"),
    ("Germany", "DE", "Köln", "50667", 50.9375, 6.9603, "+49 221 ", "de"),
    ("Belgium", "BE", "Liège", "4000", 50.6326, 5.5797, "+32 4 ", "fr"),
    ("Greece", "GR", "Αθήνα", "105 57", 37.9838, 23.7275, "+30 21 ", "el"),
    ("United Kingdom", "GB", "London", "SW1A 1AA", 51.5074, -0.1278, "+44 20 ", "en"),
    ("Côte d'Ivoire", "CI", "Abidjan", "", 5.36, -4.0083, "+225 ", "fr"),
)
STREETS = ("Dam", "Rue de l'Église", "Hauptstraße", "Λεωφόρος Αθηνών", "High Street", "Plein 1944")
STORES = ("Centrum", "Station, spoor 1", "Flughafen", "Online")
SIGNUP_CHANNELS = ("store", "web", "app", "import")
GENDERS = ("F", "M", "X", None)
TIERS = ("Bronze", "Silver", "Gold", "Platinum ★")
CAMPAIGNS = (
    (11, "incentive", "Spring welcome"),
    (12, "signup", "Thank you, 10% off"),
    (13, "mystery", "Mystery “box”"),
    (14, "wallet", "Points ×2"),  # noqa: RUF001 -- and such signs
)
VOUCHER_TYPES = ("basket", "basket_pct", "honour", "basket_fixed_unit")
CHANNELS = ("in_store", "online", "app")
PAYMENTS = ("pin", "cash", "creditcard", "ideal", "gift card")
EMPLOYEES = (("E01", "Kim"), ("E02", "Renée"), ("E03", "O'Connor"), (None, None))
CURRENCIES = ((1, "EUR", "€"), (2, "GBP", "£"))
