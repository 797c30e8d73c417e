/*
 * What happens when a person exports a segmentation from the viewer.
 *
 * OHIF 3.13.2 writes a DICOM SEG of its own: without the coded terms, the tracking and the
 * predecessor of what was edited, and from the second one of a session on with other voxels than
 * were painted. The node refuses to store such an object (node/proxy.py); here the person is told
 * so before OHIF lists a series that is in no archive. RTSTRUCT and CSV are left as they are. In the
 * clinical archive, saving.js leads the export to the node instead.
 *
 * A run-time extension: the stock build import()s it by its address (see app-config.js).
 */

import { t } from './text.js';

const CONTEXTS = ['CORNERSTONE', 'SEGMENTATION']; // both hold a storeSegmentation of the stock build
const NOT_STORED = {
  title: t('export.not-stored'),
  message: t('export.why-not'),
  type: 'warning',
  duration: 12000,
};

/**
 * Lead the export of a SEG elsewhere, whatever is done with it until now; other kinds stay.
 * Each extension (`by`) does so once, however often a mode is entered; who came last is followed.
 */
export function leadExport(manager, by, elsewhere) {
  for (const context of CONTEXTS) {
    const stock = manager.getContext(context)?.storeSegmentation;
    const ledBy = stock?.ledBy ?? [];
    if (!stock || ledBy.includes(by)) {
      continue;
    }
    manager.registerCommand(context, 'storeSegmentation', {
      ...stock,
      ledBy: [...ledBy, by],
      commandFn: options =>
        (options?.modality ?? 'SEG') === 'SEG' ? elsewhere(options) : stock.commandFn(options),
    });
  }
}

const ID = '@radloop/extension-exporting';

export default {
  id: ID,
  onModeEnter({ commandsManager, servicesManager }) {
    const { uiNotificationService } = servicesManager.services;
    leadExport(commandsManager, ID, () => uiNotificationService.show(NOT_STORED));
  },
};
