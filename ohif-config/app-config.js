/*
 * The viewer of a radloop node: stock OHIF 3.13.2, configured here and nowhere else.
 *
 * The node writes one line before this file when it serves it, so that each person gets the
 * archives that their role reaches:
 *
 *     window.radloop = {"archives": ["clinical", "research"], "user": "rita", "config": "/ohif/…/"};
 *
 * `config` is where the files beside this one are, for as long as they stay as they are.
 *
 * README.md beside this file says what each part is for.
 */
(() => {
  const ARCHIVES = {
    clinical: { root: '/dicom-web', title: 'Clinical archive' },
    research: { root: '/research/dicom-web', title: 'Research archive (de-identified)' },
  };
  const MARK = window.radloop.config + 'mark.svg';
  const SEGMENTATION_TOOLS = {
    // Stock OHIF also has MarkerLabelmap (fetches 197 MB from a model hub), ClickSegment (PET only)
    // and LabelmapSlicePropagation (the same models).
    LabelMapTools: { $set: ['BrushTools', 'Shapes', 'LabelMapEditWithContour'] },
  };

  // Results, corrections and signatures are about people: they are in the clinical archive alone.
  const isClinical = window.radloop.archives.includes('clinical');
  const WITH_PANEL = isClinical
    ? { rightPanels: { $unshift: ['@radloop/extension-radloop.panelModule.radloop'] } }
    : {};

  document.title = 'radloop viewer';

  // What moves while a study opens takes the processor from its image; opening.js ends it.
  const still = new CSSStyleSheet();
  still.replaceSync(
    '*, *::before, *::after { animation: none !important; transition: none !important; }'
  );
  if (new URLSearchParams(window.location.search).has('StudyInstanceUIDs')) {
    document.adoptedStyleSheets = [still];
  }
  window.radloop.still = still;

  window.config = {
    name: 'radloop',
    routerBasename: '/ohif',
    extensions: [
      'opening.js',
      'hanging.js',
      'exporting.js',
      ...(isClinical ? ['radloop.js', 'ai-column.js'] : []),
    ].map(name => window.radloop.config + name),
    modes: [], // the stock ones
    modesConfiguration: {
      '@ohif/mode-longitudinal': {
        hangingProtocol: { $set: 'radloop' },
        routes: { 0: { layoutInstance: { props: { rightPanelClosed: { $set: false } } } } },
      },
      '@ohif/mode-segmentation': { hangingProtocol: { $set: 'radloop' } },
    },
    customizationService: {
      global: {
        'cornerstone.segmentationToolbarSections': SEGMENTATION_TOOLS,
        ...(isClinical ? { 'workList.columns': { $apply: withAiColumn } } : {}),
      },
      mode: { segmentation: WITH_PANEL, viewer: WITH_PANEL },
    },

    whiteLabeling: { createLogoComponentFn: logo },
    investigationalUseDialog: { option: 'configure', days: 30 },
    disableConfirmationPrompts: true, // a segmentation opens on its image at once
    showStudyList: true,
    showErrorDetails: 'dev',
    showWarningMessageForCrossOrigin: false,
    showCPUFallbackMessage: true,
    showLoadingIndicator: true,
    strictZSpacingForVolumeViewport: true,
    groupEnabledModesFirst: true,
    allowMultiSelectExport: false,
    maxNumberOfWebWorkers: 3,
    maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 25 },

    httpErrorHandler: error => {
      if (error.status === 401) {
        askForLogin();
      }
    },
    defaultDataSourceName: window.radloop.archives[0],
    dataSources: window.radloop.archives.map(dataSource),
  };

  /**
   * The session has ended: log in, in place where something may be open that was not saved, else on
   * the login page, and come back to the same study.
   */
  function askForLogin() {
    if (window.radloop.logIn) {
      window.radloop.logIn();
      return;
    }
    const here = window.location.pathname + window.location.search;
    window.location.assign('/login?next=' + encodeURIComponent(here));
  }

  /**
   * The study list's columns with 'AI' before the description. A React element is a plain object;
   * what is in a cell is a custom element (ai-column.js), which asks the node by itself.
   */
  function withAiColumn(columns) {
    const place = columns.findIndex(column => column.id === 'description');
    const column = {
      id: 'ai',
      accessorFn: () => '',
      header: columns[place].header,
      enableSorting: false,
      filterFn: (row, _id, text) =>
        (window.radloop.aiWord?.(row.original.studyInstanceUid) ?? '').includes(text.toLowerCase()),
      cell: ({ row }) => ({
        $$typeof: Symbol.for('react.element'),
        type: 'radloop-ai-state',
        key: null,
        ref: null,
        props: { uid: row.original.studyInstanceUid },
        _owner: null,
      }),
      meta: {
        label: 'AI',
        headerClassName: 'min-w-[130px]',
        cellClassName: 'min-w-[130px]',
        minWidth: 130,
        priority: 95,
      },
    };
    return columns.toSpliced(place, 0, column);
  }

  function dataSource(name) {
    const { root, title } = ARCHIVES[name];
    return {
      namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
      sourceName: name,
      configuration: {
        name,
        friendlyName: title,
        qidoRoot: root,
        wadoRoot: root,
        wadoUriRoot: root,
        qidoSupportsIncludeField: true,
        supportsFuzzyMatching: false,
        supportsWildcard: true, // Orthanc finds parts of a name with '*' only
        supportsReject: false,
        imageRendering: 'wadors',
        thumbnailRendering: 'thumbnailDirect', // by the archive: no second context for WebGL
        enableStudyLazyLoad: true,
        singlepart: 'video,pdf',
        bulkDataURI: { enabled: true, relativeResolution: 'studies' },
        omitQuotationForMultipartRequest: true,
        dicomUploadEnabled: false, // studies come from the PACS
      },
    };
  }

  function logo(React) {
    return React.createElement(
      'a',
      { href: '/', style: { display: 'flex', alignItems: 'center', gap: '8px' } },
      React.createElement('img', { src: MARK, alt: '', width: 22, height: 22 }),
      React.createElement(
        'span',
        { style: { color: '#fff', fontSize: '17px', fontWeight: 600, letterSpacing: '0.01em' } },
        'radloop'
      )
    );
  }
})();
