#include "sfu/faults.h"

#include <json-glib/json-glib.h>

namespace cfr::sfu {

std::optional<Fault> FaultTable::strike(const std::string& operation) {
  for (std::size_t i = 0; i < faults_.size(); ++i) {
    if (!faults_[i].operation.empty() && faults_[i].operation != operation) continue;
    Fault fault = faults_[i];
    if (faults_[i].count > 0 && --faults_[i].count == 0)
      faults_.erase(faults_.begin() + std::ptrdiff_t(i));
    return fault;
  }
  return std::nullopt;
}

Result<Fault> read_fault(const std::string& text) {
  Error bad;
  bad.message = "A fault is a JSON object; see the documentation of /debug/faults.";
  g_autoptr(JsonParser) parser = json_parser_new();
  if (!json_parser_load_from_data(parser, text.data(), gssize(text.size()), nullptr)) return bad;
  JsonNode* root = json_parser_get_root(parser);
  if (!root || !JSON_NODE_HOLDS_OBJECT(root)) return bad;
  JsonObject* object = json_node_get_object(root);
  Fault fault;
  fault.operation = json_object_get_string_member_with_default(object, "operation", "");
  fault.count = int(json_object_get_int_member_with_default(object, "count", 1));
  fault.status = int(json_object_get_int_member_with_default(object, "status", 0));
  fault.code = json_object_get_string_member_with_default(object, "errorCode", "");
  fault.retry_after_s = unsigned(json_object_get_int_member_with_default(object, "retryAfter", 0));
  fault.delay_ms = unsigned(json_object_get_int_member_with_default(object, "delayMs", 0));
  fault.drop = json_object_get_boolean_member_with_default(object, "drop", FALSE);
  fault.garbage = json_object_get_boolean_member_with_default(object, "garbage", FALSE);
  return fault;
}

}  // namespace cfr::sfu
