#include "sfu/faults.h"

#include <json-glib/json-glib.h>

#include "wire/json_syntax.h"

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

namespace {

// Members of a wrong type are the mistake of a test, which wants to know.
class Reader {
 public:
  explicit Reader(JsonObject* object) : object_(object) {}

  std::string text(const char* name) {
    JsonNode* node = member(name, G_TYPE_STRING);
    return node ? json_node_get_string(node) : "";
  }
  int number(const char* name, int otherwise, int low) {
    JsonNode* node = member(name, G_TYPE_INT64);
    if (!node) return otherwise;
    gint64 value = json_node_get_int(node);
    good_ = good_ && value >= low && value <= G_MAXINT32;
    return int(value);
  }
  bool flag(const char* name) {
    JsonNode* node = member(name, G_TYPE_BOOLEAN);
    return node && json_node_get_boolean(node);
  }
  bool good() const { return good_; }

 private:
  JsonNode* member(const char* name, GType type) {
    JsonNode* node = json_object_get_member(object_, name);
    if (!node || json_node_get_value_type(node) == type) return node;
    good_ = false;
    return nullptr;
  }
  JsonObject* object_;
  bool good_ = true;
};

}  // namespace

Result<Fault> read_fault(const std::string& text) {
  Error bad;
  bad.message = "A fault is a JSON object; see the documentation of /debug/faults.";
  if (!json::check_syntax(text).empty()) return bad;
  g_autoptr(JsonParser) parser = json_parser_new();
  if (!json_parser_load_from_data(parser, text.data(), gssize(text.size()), nullptr)) return bad;
  JsonNode* root = json_parser_get_root(parser);
  if (!root || !JSON_NODE_HOLDS_OBJECT(root)) return bad;
  Reader reader(json_node_get_object(root));
  Fault fault;
  fault.operation = reader.text("operation");
  fault.count = reader.number("count", 1, -1);
  fault.status = reader.number("status", 0, 0);
  fault.code = reader.text("errorCode");
  fault.retry_after_s = unsigned(reader.number("retryAfter", 0, 0));
  fault.delay_ms = unsigned(reader.number("delayMs", 0, 0));
  fault.drop = reader.flag("drop");
  fault.garbage = reader.flag("garbage");
  if (!reader.good() || (fault.status && (fault.status < 200 || fault.status > 599))) return bad;
  return fault;
}

}  // namespace cfr::sfu
