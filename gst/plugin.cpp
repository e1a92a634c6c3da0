#include <gst/gst.h>

#include "gstcfrealtimesink.h"
#include "gstcfrealtimesrc.h"

static gboolean plugin_init(GstPlugin* plugin) {
  // Neither is picked by autopluggers: both need settings.
  return gst_element_register(plugin, "cfrealtimesink", GST_RANK_NONE, GST_TYPE_CF_REALTIME_SINK) &&
         gst_element_register(plugin, "cfrealtimesrc", GST_RANK_NONE, GST_TYPE_CF_REALTIME_SRC);
}

GST_PLUGIN_DEFINE(GST_VERSION_MAJOR, GST_VERSION_MINOR, cfrealtime,
                  "Publish to and play from the Cloudflare Realtime SFU", plugin_init,
                  PACKAGE_VERSION, "LGPL", "cfrealtime",
                  "https://developers.cloudflare.com/realtime/")
