//! The currencies of ISO 4217, list one, as of 1 January 2026, each with its minor unit.
//!
//! Codes without a minor unit (metals, drawing rights, those for tests) stand for no money that is
//! counted, and are left out.
//!
//! Source: SIX Group, maintenance agency of ISO 4217,
//! <https://www.six-group.com/en/products-services/financial-information/data-standards.html>.

use rust_decimal::Decimal;

use super::rule::Refusal;

/// Codes by the number of their decimals.
const CODES: [(u32, &str); 4] = [
    (
        0,
        "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    ),
    (
        2,
        "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD \
         CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP \
         GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK \
         LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO \
         NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS \
         SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST \
         XAD XCD XCG YER ZAR ZMW ZWG",
    ),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
];

/// How many decimals amounts of this currency have; none for codes of no currency.
pub(crate) fn minor_unit(code: &str) -> Option<u32> {
    let known = |codes: &str| code.len() == 3 && codes.split(' ').any(|known| known == code);
    let found = CODES.iter().find(|(_, codes)| known(codes));
    found.map(|(decimals, _)| *decimals)
}

/// The code in upper case, if it is one of a currency.
pub(super) fn code(text: &str) -> Result<String, Refusal> {
    let code = text.to_ascii_uppercase();
    match minor_unit(&code) {
        Some(_) => Ok(code),
        None => {
            let message = "must be the ISO 4217 code of a currency in use, such as EUR";
            Err(Refusal::new("unknown_currency", message))
        }
    }
}

/// Refuses an amount that is finer than the currency's smallest unit.
pub(super) fn admit(amount: Decimal, code: &str) -> Result<(), Refusal> {
    let decimals = minor_unit(code).unwrap_or(u32::MAX);
    if amount.normalize().scale() <= decimals {
        return Ok(());
    }
    let digits = match decimals {
        0 => "no digits".to_owned(),
        decimals => format!("at most {decimals} digits"),
    };
    let message = format!("must have {digits} after the point: {code} has no smaller unit");
    Err(Refusal::new("too_precise", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once_and_looks_like_one() {
        let all: Vec<&str> = CODES
            .iter()
            .flat_map(|(_, codes)| codes.split(' '))
            .collect();
        let mut once = all.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), all.len());
        assert_eq!(all.len(), 165);
        assert!(
            all.iter().all(|code| {
                code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase())
            })
        );
    }

    #[test]
    fn a_currency_is_one_in_use_in_either_case() {
        for (text, decimals) in [("EUR", 2), ("jpy", 0), ("Bhd", 3), ("CLF", 4)] {
            assert_eq!(minor_unit(&code(text).unwrap()), Some(decimals));
        }
        for text in [
            "", "EU", "EURO", "DEM", "HRK", "BTC", "XAU", "XXX", "E R", "€", "EUR USD",
        ] {
            assert_eq!(code(text).unwrap_err().code, "unknown_currency", "{text}");
        }
    }

    #[test]
    fn amounts_end_at_the_minor_unit() {
        let admitted = |text: &str, code: &str| admit(text.parse().unwrap(), code).is_ok();
        assert!(admitted("12.50", "EUR") && admitted("12.500", "EUR"));
        assert!(!admitted("12.505", "EUR") && !admitted("-0.001", "EUR"));
        assert!(admitted("12.00", "JPY") && !admitted("0.5", "JPY"));
        assert!(admitted("0.001", "BHD") && !admitted("0.0001", "BHD"));
    }
}
