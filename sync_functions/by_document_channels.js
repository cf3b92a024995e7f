// The default of a database that is given no sync function: a document says itself which channels it is in.
//
//   {"channels": ["news", "sport"], …}     in both channels
//   {"channels": "news", …}                in one
//   {…}                                    in none: only admins and holders of "*" see it
//   {"channels": ["!"], …}                 public: everybody who may log in sees it
//
// Who has which channel is said in the configuration or by the admin API (`admin_channels`). Everybody who may log in
// may write, and may put documents into any channel: good for a first try and for one trusted group of writers.
// Where writers must be kept apart, start from private_and_shared.js or retail_chain.js.
function (doc, oldDoc, meta) {
  channel(doc.channels);
}
