#include "media/chain_bin.h"

namespace {

struct CfrChainBin {
  GstBin parent;
  std::function<bool(GstMessage*)>* keep;
};

struct CfrChainBinClass {
  GstBinClass parent;
};

GType cfr_chain_bin_get_type();
G_DEFINE_TYPE(CfrChainBin, cfr_chain_bin, GST_TYPE_BIN)

void cfr_chain_bin_handle_message(GstBin* bin, GstMessage* message) {
  auto* keep = reinterpret_cast<CfrChainBin*>(bin)->keep;
  if (keep && !(*keep)(message)) return gst_message_unref(message);
  GST_BIN_CLASS(cfr_chain_bin_parent_class)->handle_message(bin, message);
}

void cfr_chain_bin_finalize(GObject* object) {
  delete reinterpret_cast<CfrChainBin*>(object)->keep;
  G_OBJECT_CLASS(cfr_chain_bin_parent_class)->finalize(object);
}

void cfr_chain_bin_init(CfrChainBin*) {}

void cfr_chain_bin_class_init(CfrChainBinClass* klass) {
  GST_BIN_CLASS(klass)->handle_message = cfr_chain_bin_handle_message;
  G_OBJECT_CLASS(klass)->finalize = cfr_chain_bin_finalize;
}

}  // namespace

namespace cfr {

GstElement* make_chain_bin(const char* name, std::function<bool(GstMessage*)> keep) {
  auto* bin =
      static_cast<CfrChainBin*>(g_object_new(cfr_chain_bin_get_type(), "name", name, nullptr));
  bin->keep = new std::function<bool(GstMessage*)>(std::move(keep));
  return GST_ELEMENT(bin);
}

}  // namespace cfr
