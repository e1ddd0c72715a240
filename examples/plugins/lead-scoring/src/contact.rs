//! The records of contacts, from their declaration: made by `crm plugin types contacts --lang rust`.

crm_plugin_sdk::record! {
    /// A person you deal with.
    pub struct Contact in contacts {
        name: String,
        email: String,
        phone: String,
        /// The company's name, for contacts whose company is not kept as a record.
        company: String,
        company_id: String,
        job_title: String,
        tags: Vec<String>,
        notes: String,
        /// How promising the contact is, 0 to 100.
        score: i64,
        status: String,
    }
}
