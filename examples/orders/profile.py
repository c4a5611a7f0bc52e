"""What a real shop's log looks like, in figures: the proportions that the generator follows.

Counted over 8,135 orders of a marketplace in two years. Only counts and quantiles stand here; ids, places and amounts
of single orders are invented by `generate`.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "CHANCE_OF_NO_ITEMS",
    "FREIGHT",
    "GAPS_H",
    "INSTALLMENTS",
    "ITEMS",
    "LETTERS",
    "LEVELS",
    "LIVES",
    "OTHER_GAP_H",
    "PAYMENTS",
    "PLACED_AFTER_DAYS",
    "PROMISED_AFTER_DAYS",
    "SCORES_DELIVERED",
    "SCORES_OTHERS",
    "SHIPPING_LIMIT_H",
    "STATES",
    "TOTAL",
    "TOTAL_WITHOUT_ITEMS",
]

LETTERS: Final = {
    "P": "OrderPlaced",
    "A": "PaymentApproved",
    "I": "Invoiced",
    "S": "ProcessingStarted",
    "H": "HandedToCarrier",
    "D": "DeliveredToCustomer",
    "C": "Canceled",
    "U": "MarkedUnavailable",
    "s": "ReviewSurveySent",
    "a": "ReviewAnswered",
}
"""A letter for each kind of event, in the order that a shop would wish for."""

# How many orders lived like this, letter by letter in the order of time. The dirt is in the rare ones: HA is a
# hand-over before the approval, DH a delivery before the hand-over, DC a cancellation after the delivery, sP a survey
# and HP a hand-over before the order itself.
# fmt: off
LIVES: Final = {
    "PAHDsa": 4568, "PAHsa": 1087, "PAUsa": 605, "PACsa": 405, "PAIsa": 310, "PASsa": 300, "PAHsaD": 241,
    "PAHsDa": 202, "PCsa": 73, "PAHCsa": 68, "PHADsa": 60, "saPC": 56, "PAHDssaa": 20, "PAHsaDsa": 19,
    "PAHDsasa": 15, "PAsaHD": 12, "sPCa": 11, "PAHsasa": 7, "PHAsa": 7, "PAsaH": 6, "PAHDCsa": 5,
    "Psa": 5, "PAHsDsaa": 4, "PAIsasa": 4, "PAsHaD": 4, "PAsa": 3, "PAHssaa": 3, "PHAsDa": 3,
    "PsaAU": 2, "PACsasa": 2, "HPADsa": 2, "PHDsAa": 2, "PsACa": 1, "PAsaDH": 1, "PADsaH": 1,
    "PADsHa": 1, "PAHsaDC": 1, "saPAC": 1, "HPAsa": 1, "PHDAsa": 1, "saPAH": 1, "PAHDsssaaa": 1,
    "PASsasa": 1, "PAUsasa": 1, "PAHCsasa": 1,
}
# fmt: on

LEVELS: Final = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 1.0)
"""What the figures of a distribution stand for: the smallest value, quantiles, and nearly the largest."""

Distribution = tuple[float, float, float, float, float, float, float, float]

AT_ONCE: Final[Distribution] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

GAPS_H: Final[dict[str, Distribution]] = {
    "PA": (0.0, 0.2, 0.2, 0.3, 14.8, 34.9, 74.9, 120.9),
    "AH": (0.0, 12.1, 21.8, 44.3, 88.4, 143.5, 325.8, 497.7),
    "HD": (0.0, 42.5, 96.5, 167.9, 260.5, 365.3, 545.4, 670.3),
    "PH": (0.1, 3.4, 18.8, 25.3, 51.3, 75.5, 108.9, 109.3),
    "HA": (0.0, 0.6, 2.2, 15.7, 24.9, 52.4, 101.4, 104.7),
    "AD": (0.8, 30.9, 96.6, 139.7, 191.6, 302.9, 431.8, 477.2),
    "sa": (1.4, 12.0, 21.0, 38.0, 72.2, 116.3, 350.6, 1176.9),
    "Ds": (0.0, 1.8, 3.6, 6.0, 9.2, 12.6, 26.2, 167.1),
    "Hs": (2.4, 157.2, 347.2, 515.9, 650.0, 768.6, 987.3, 1207.1),
    "Us": (48.5, 345.2, 469.7, 596.2, 721.5, 869.9, 1141.1, 1328.1),
    "Cs": (5.2, 268.7, 372.3, 526.2, 676.9, 878.2, 1308.2, 1904.1),
    "Is": (99.5, 317.2, 443.1, 584.4, 779.5, 1117.5, 1399.9, 1551.8),
    "Ss": (37.1, 518.6, 596.6, 702.4, 850.9, 1034.5, 1470.2, 2196.6),
    "As": (7.4, 151.5, 270.2, 506.2, 669.2, 759.1, 1254.7, 1254.7),
    "Ps": (440.6, 440.6, 672.8, 706.8, 934.9, 1061.9, 1061.9, 1061.9),
    "aD": (0.1, 14.8, 48.5, 125.2, 295.9, 559.8, 1204.3, 2329.5),
    "sD": (0.1, 0.6, 1.0, 1.9, 5.8, 42.5, 88.5, 113.3),
    "Da": (0.0, 16.0, 20.4, 36.4, 79.1, 113.4, 164.4, 570.7),
    "Ha": (2.4, 2.4, 21.2, 49.2, 63.9, 111.7, 111.7, 111.7),
    "Ca": (1.0, 2.2, 5.8, 42.0, 64.6, 114.0, 455.2, 455.2),
    "aP": (9.1, 26.0, 86.0, 356.4, 712.0, 949.5, 2280.2, 2610.5),
    "sP": (8.2, 8.3, 8.7, 14.4, 16.6, 18.7, 58.2, 58.2),
    "aH": (1.3, 6.5, 47.4, 119.9, 208.9, 337.7, 385.2, 385.2),
    "sH": (7.3, 7.3, 18.6, 48.2, 87.9, 94.9, 94.9, 94.9),
    "as": (0.2, 10.1, 34.0, 121.2, 326.5, 465.6, 2507.2, 2507.2),
    "ss": (0.0, 0.0, 0.0, 0.0, 24.0, 72.0, 192.0, 192.0),
    "aa": (0.0, 0.0, 0.0, 0.1, 25.6, 99.2, 495.1, 495.1),
    # Their times were concluded from the event before.
    **dict.fromkeys(("AU", "AC", "AI", "AS", "PC", "HC", "DC"), AT_ONCE),
}
"""Hours from one event of an order to the next."""
OTHER_GAP_H: Final[Distribution] = (0.1, 1.1, 1.4, 13.7, 86.6, 133.3, 500.0, 500.0)

PLACED_AFTER_DAYS: Final[Distribution] = (0.0, 232.2, 347.9, 485.7, 592.0, 678.8, 710.9, 721.1)
PROMISED_AFTER_DAYS: Final[Distribution] = (1.6, 13.1, 18.3, 23.4, 29.0, 35.2, 49.2, 59.4)
SHIPPING_LIMIT_H: Final[Distribution] = (48.1, 96.2, 120.2, 144.3, 178.3, 250.4, 451.2, 767.2)
TOTAL: Final[Distribution] = (2.9, 25.9, 47.0, 89.9, 159.9, 299.0, 756.0, 1600.0)
FREIGHT: Final[Distribution] = (0.0, 9.3, 13.9, 17.2, 24.9, 42.1, 84.9, 151.9)
TOTAL_WITHOUT_ITEMS: Final[Distribution] = (0.0, 38.7, 68.0, 106.9, 193.0, 419.8, 1529.0, 2345.0)

CHANCE_OF_NO_ITEMS: Final = {"P": 1.0, "PC": 1.0, "PAU": 0.99, "PAC": 0.056, "PAI": 0.006}
"""Orders whose goods the shop no longer knew, by what became of them."""
ITEMS: Final = {1: 6661, 2: 531, 3: 94, 4: 37, 5: 17, 6: 15, 7: 3, 8: 2}
PAYMENTS: Final = {
    ("credit_card",): 5990,
    ("boleto",): 1580,
    ("voucher",): 166,
    ("credit_card", "voucher"): 149,
    ("debit_card",): 122,
    ("credit_card", "credit_card"): 31,
    ("credit_card", "voucher", "voucher"): 17,
    ("voucher", "voucher"): 16,
    ("credit_card", *["voucher"] * 3): 8,
    ("credit_card", *["voucher"] * 5): 8,
    ("credit_card", *["voucher"] * 10): 38,
    ("not_defined",): 3,
}
INSTALLMENTS: Final = {
    1: 1993,
    2: 1002,
    3: 879,
    4: 580,
    5: 457,
    6: 318,
    7: 132,
    8: 364,
    9: 52,
    10: 447,
    12: 15,
    15: 5,
}
"""Of payments by credit card; all others are paid at once."""
# fmt: off
STATES: Final = {
    "SP": 3452, "RJ": 1167, "MG": 888, "RS": 423, "PR": 394, "BA": 305, "SC": 272, "GO": 173, "DF": 155,
    "ES": 130, "PE": 129, "CE": 126, "PA": 78, "MT": 68, "MA": 54, "PB": 50, "PI": 43, "MS": 43, "AL": 40,
    "SE": 39, "RN": 30, "RO": 24, "TO": 23, "AC": 8, "AP": 8, "RR": 7, "AM": 6,
}
# fmt: on
SCORES_DELIVERED: Final = {5: 3078, 4: 1024, 1: 537, 3: 437, 2: 162}
SCORES_OTHERS: Final = {1: 2101, 5: 276, 3: 230, 2: 220, 4: 160}
