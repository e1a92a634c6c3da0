// The end of a webrtcbin.
#include <gst/gst.h>

#include <cstring>

#include "rtc/peer.h"
#include "rtc/peer_state.h"
#include "util/dtls_end.h"
#include "util/gref.h"

#define GST_CAT_DEFAULT peer_debug()

namespace cfr {

namespace {

// In NULL a receiving transport lets go of the block on its input, which holds a reference on the
// transport. If ICE changes its state after that, 1.22 makes another one, for good: the transport
// and its sockets are never freed. On the way through READY and back it lets go again.
void release(GstElement* transport) {
  g_autoptr(GstElement) decoder = nullptr;
  GstIterator* inside =
      gst_bin_iterate_all_by_element_factory_name(GST_BIN(transport), "dtlssrtpdec");
  GValue item = G_VALUE_INIT;
  if (gst_iterator_next(inside, &item) == GST_ITERATOR_OK) {
    decoder = GST_ELEMENT(g_value_dup_object(&item));
    g_value_unset(&item);
  }
  gst_iterator_free(inside);
  g_autoptr(GstPad) sink = decoder ? gst_element_get_static_pad(decoder, "sink") : nullptr;
  g_autoptr(GstPad) input = sink ? gst_pad_get_peer(sink) : nullptr;
  if (!input || !gst_pad_is_blocked(input)) return;
  GST_DEBUG_OBJECT(transport, "blocked again after its end");
  gst_element_set_state(transport, GST_STATE_READY);
  gst_element_set_state(transport, GST_STATE_NULL);
}

}  // namespace

void dispose_webrtcbin(GstElement* webrtcbin) {
  gst_element_set_state(webrtcbin, GST_STATE_NULL);
  // Its own thread has ended now; that of ICE goes on.
  const gref<GObject> ice = object_property(webrtcbin, "ice-agent");
  const gref<GObject> agent = ice ? object_property(ice.get(), "agent") : gref<GObject>();
  const guint signal =
      agent ? g_signal_lookup("component-state-changed", G_OBJECT_TYPE(agent.get())) : 0;
  if (signal)
    g_signal_handlers_block_matched(agent.get(), G_SIGNAL_MATCH_ID, signal, 0, nullptr, nullptr,
                                    nullptr);

  forget_dtls_connections(webrtcbin);

  GstIterator* children = gst_bin_iterate_elements(GST_BIN(webrtcbin));
  GValue item = G_VALUE_INIT;
  while (gst_iterator_next(children, &item) == GST_ITERATOR_OK) {
    auto* child = GST_ELEMENT(g_value_get_object(&item));
    if (std::strcmp(G_OBJECT_TYPE_NAME(child), "TransportReceiveBin") == 0) release(child);
    g_value_reset(&item);
  }
  g_value_unset(&item);
  gst_iterator_free(children);
}

}  // namespace cfr
