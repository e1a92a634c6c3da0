#include "media/decoders.h"

namespace cfr {

GstElement* make_decoder(const Codec& codec) {
  g_autoptr(GstCaps) caps = gst_caps_from_string(codec.encoded_caps);
  // There are decoders of high rank for pictures with an alpha plane and nothing else.
  if (codec.kind == MediaKind::video)
    gst_caps_set_simple(caps, "codec-alpha", G_TYPE_BOOLEAN, FALSE, nullptr);
  GList* all = gst_element_factory_list_get_elements(
      GST_ELEMENT_FACTORY_TYPE_DECODER |
          (codec.kind == MediaKind::video ? GST_ELEMENT_FACTORY_TYPE_MEDIA_VIDEO
                                          : GST_ELEMENT_FACTORY_TYPE_MEDIA_AUDIO),
      GST_RANK_MARGINAL);
  GList* fitting = gst_element_factory_list_filter(all, caps, GST_PAD_SINK, FALSE);
  fitting = g_list_sort(fitting, gst_plugin_feature_rank_compare_func);
  GstElement* decoder = nullptr;
  for (GList* item = fitting; item && !decoder; item = item->next) {
    decoder = gst_element_factory_create(GST_ELEMENT_FACTORY(item->data), nullptr);
    if (!decoder) continue;
    if (gst_element_set_state(decoder, GST_STATE_READY) == GST_STATE_CHANGE_FAILURE) {
      gst_element_set_state(decoder, GST_STATE_NULL);
      gst_object_ref_sink(decoder);
      gst_object_unref(decoder);
      decoder = nullptr;
    }
  }
  gst_plugin_feature_list_free(fitting);
  gst_plugin_feature_list_free(all);
  if (decoder) {
    // Frame threads would hold frames back.
    set_if_present(decoder, "thread-type", "slice");
    set_if_present(decoder, "output-corrupt", "false");
    set_if_present(decoder, "max-errors", "-1");
    set_if_present(decoder, "automatic-request-sync-points", "true");
    set_if_present(decoder, "min-force-key-unit-interval", "1000000000");
    set_if_present(decoder, "plc", "true");
    set_if_present(decoder, "use-inband-fec", "true");
  }
  return decoder;
}

}  // namespace cfr
