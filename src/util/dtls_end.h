// What a bin with DTLS elements needs before it is given up.
#pragma once

#include <gst/gst.h>

namespace cfr {

// DTLS's retransmission timer may be what frees the connection, on the system clock's thread. If
// that is just when an element that listens to the connection is freed, GLib crashes: closures made
// by g_signal_connect_object() are looked up in a list that the other thread is taking away. So, in
// NULL, the elements stop listening while they still hold the connection.
inline void forget_dtls_connections(GstElement* bin) {
  for (const char* factory : {"dtlsdec", "dtlsenc"}) {
    GstIterator* elements = gst_bin_iterate_all_by_element_factory_name(GST_BIN(bin), factory);
    GValue item = G_VALUE_INIT;
    while (gst_iterator_next(elements, &item) == GST_ITERATOR_OK) {
      // GLib's own key; without a value all closures that watch the object are invalid.
      g_object_set_data(G_OBJECT(g_value_get_object(&item)), "GObject-closure-array", nullptr);
      g_value_reset(&item);
    }
    g_value_unset(&item);
    gst_iterator_free(elements);
  }
}

}  // namespace cfr
